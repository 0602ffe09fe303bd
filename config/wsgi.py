import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

from apitokens import gathering  # noqa: E402 -- its models need the applications that are set up by now

gathering.start()
