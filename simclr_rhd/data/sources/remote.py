"""Places that are not folders of this machine: which there are, and what opens them."""

from simclr_rhd.data.sources.base import BucketAccess, Source

SCHEMES = ("gs://",)  # the beginnings of their names
WRITABLE_SCHEMES = ("gs://",)  # of --save-dir


def remote_places(rest: str) -> str:
    """Name the remote places in a message: 'gs://BUCKET' of the rest 'BUCKET'."""
    return " or ".join(scheme + rest for scheme in SCHEMES)


def scheme_of(place: str) -> str:
    """The scheme of a remote place, "" for one of this machine."""
    return next((scheme for scheme in SCHEMES if place.startswith(scheme)), "")


def is_local_or_remote(place: str) -> bool:
    """Return True for a path of this machine and for a place of a known scheme."""
    return place != "" and ("://" not in place or place.startswith(SCHEMES))


def is_local_or_writable(place: str) -> bool:
    """Return True for a path of this machine and for a place that a run may write to."""
    return place != "" and ("://" not in place or place.startswith(WRITABLE_SCHEMES))


def open_remote(location: str, access: BucketAccess, *, flag: str) -> Source:
    """The source of a remote place, with its scheme, that `flag` named; its client is imported only here.

    Raises:
        UserError: there is no such place, or it cannot be opened.
    """
    from simclr_rhd.data.sources.gcs import Bucket

    return Bucket(location, access, flag=flag)
