"""One JSON object a line, with everything that looks like a credential taken out before it is written."""

import logging
import re

import structlog

from apitokens.credentials import redacted

_CREDENTIAL = re.compile(
    # JWTs, and whatever follows an authorization scheme
    r"(?:eyJ[\w-]{8,}\.[\w-]+\.[\w-]*)"
    # and the part of a one-time link that opens it
    r"|(?:(?<=/reset/key/)[\w-]+)"
    r"|(?:(?<=/invitations/)(?![0-9a-f-]{36}(?![\w-]))[\w-]+)"
    r"|(?:(?<=/open/)[\w-]+)"
    r"|(?:(?<=[Bb]asic )[A-Za-z0-9+/=]{8,})|(?:(?<=[Bb]earer )\S{8,})"
)


class _Redacting(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return _CREDENTIAL.sub("[redacted]", redacted(super().format(record)))


def formatter() -> logging.Formatter:
    """For Django's LOGGING. JSON escapes line breaks, so that nobody can forge a line through an address."""
    stamp: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return _Redacting(
        foreign_pre_chain=[*stamp, structlog.stdlib.ExtraAdder(["request_id", "method", "path", "status", "ms"])],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
