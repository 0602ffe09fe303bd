"""Every refusal that the API can give, written into its OpenAPI document, which knows successes only by itself."""

PROBLEM = {"$ref": "#/components/schemas/Problem"}
REFUSALS = {
    "400": "Something in the request makes no sense; `errors` names the fields.",
    "401": "No credential, or a bad one.",
    "403": "A permission is missing, or something asked for is above your ceiling.",
    "404": "There is no such thing, or not for you.",
    "405": "This address does not take the method.",
    "406": "The API answers JSON only.",
    "409": "It is in the way of something that exists.",
    "411": "The body came in chunks, without a `Content-Length`.",
    "412": "It has changed since you saw it: the version in `If-Match` is not that of today.",
    "413": "The body is over 64 KiB.",
    "415": "The body is not application/json.",
    "429": "Too many wrong credentials; `Retry-After` says when to try again. A right one is never limited.",
    "503": "The database can't be reached; `Retry-After` says when to try again.",
}
WITH_BODY_ONLY = {"411", "413", "415"}
WITHOUT_CHANGE_ABSENT = {"409"}


def add_problems(result: dict, generator: object, request: object, public: bool) -> dict:
    """A post-processing hook of drf-spectacular."""
    for path in result["paths"].values():
        for method, operation in path.items():
            if method not in {"get", "post", "put", "patch", "delete"}:
                continue
            for status, description in REFUSALS.items():
                if status in WITH_BODY_ONLY and "requestBody" not in operation:
                    continue
                if status in WITHOUT_CHANGE_ABSENT and method == "get":
                    continue
                if status == "412" and not _is_conditional(operation):
                    continue
                operation["responses"].setdefault(
                    status, {"description": description, "content": {"application/problem+json": {"schema": PROBLEM}}}
                )
    result["components"]["schemas"]["Problem"] = PROBLEM_SCHEMA
    return result


def _is_conditional(operation: dict) -> bool:
    return any(parameter.get("name") == "If-Match" for parameter in operation.get("parameters", []))


PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457. `code` is the last part of `type`; further members depend on it.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
        "permission": {"type": "string"},
        "role": {"type": "string"},
        "token": {"type": "string"},
        "token_page": {"type": "string"},
    },
}
