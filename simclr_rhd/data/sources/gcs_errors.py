"""The errors of Google Cloud Storage, in one sentence each."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.text import replace_unprintable

RETRYABLE_STATUS = (408, 429)  # refusals that pass
POLICY_PATTERN = "polic|constraint|prohibited"  # words of what an organisation forbids
REFUSAL_ADVICE = (  # words of Google's refusals, and what can be done
    ("serviceusage", "The account in use needs the role Service Usage Consumer on the --billing-project"),
    ("requester pays|user ?project", "Name the project that pays: --billing-project PROJECT"),
    ("billing|disabled|delinquent", "The owner of the project must put its billing in order"),
    (POLICY_PATTERN, "Whoever administers the organisation can allow it"),
)
MAX_MESSAGE_CHARS = 300  # characters

T = TypeVar("T")


@dataclass(frozen=True)
class ErrorTranslator:
    """Calls requests; the client's errors become a `UserError`.

    Attributes:
        message_prefix: begins each message.
        bucket: name of the bucket.
        role: that the account needs.
    """

    message_prefix: str
    bucket: str
    role: str

    def __call__(self, request: Callable[[], T]) -> T:
        """The result of a request.

        Raises:
            UserError: it failed; a PreconditionFailed of the request's own stays as it is.
        """
        import requests
        from google.api_core import exceptions as api
        from google.auth import exceptions as auth

        try:
            return request()
        except api.PreconditionFailed as error:
            if not re.search(POLICY_PATTERN, _error_message(error), re.IGNORECASE):
                raise  # the request's own condition
            raise UserError(self._refusal_message(error)) from None
        except auth.DefaultCredentialsError:
            raise UserError(
                f"{self.message_prefix}: no Google credentials found. Run `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the path of a "
                "service account's key file"
            ) from None
        except api.NotFound:
            raise UserError(
                f"{self.message_prefix}: there is no bucket {self.bucket}, or the account in "
                "use may not see it"
            ) from None
        except auth.RefreshError:
            raise UserError(
                f"{self.message_prefix}: the Google credentials were refused. Run `gcloud auth "
                "application-default login` again, or renew the service account's key"
            ) from None
        except (
            api.GoogleAPICallError,
            api.RetryError,
            auth.TransportError,
            requests.RequestException,
        ) as error:
            if isinstance(error, api.ClientError) and error.code not in RETRYABLE_STATUS:
                raise UserError(self._refusal_message(error)) from None
            raise UserError(
                f"{self.message_prefix}: Google Cloud Storage does not answer "
                f"({_error_message(error)}); what is fetched is kept, try again later"
            ) from None

    def _refusal_message(self, error: Any) -> str:
        """The reason of a refused request, in Google's words, and what can be done."""
        message, denied = _error_message(error), error.code in (401, 403)
        advice = (text for pattern, text in REFUSAL_ADVICE if re.search(pattern, message, re.IGNORECASE))
        need = f"The account in use needs the role {self.role} on this bucket" * denied
        problem = f"{'access denied' if denied else 'refused'} ({error.code})"
        return f"{self.message_prefix}: {problem}: {message}. {next(advice, need)}".rstrip(" .")


def _error_message(error: Any) -> str:
    """Google's own words, without the address of the request."""
    error = getattr(error, "cause", None) or error  # of the last attempt
    message = ""
    with suppress(AttributeError, ValueError, KeyError, TypeError):
        message = error.response.text.strip()
        message = str(json.loads(message)["error"]["message"])
    if not message or message.startswith(("<", "{")):
        message = type(error).__name__
    return replace_unprintable(" ".join(message.split()))[:MAX_MESSAGE_CHARS].rstrip(". ")
