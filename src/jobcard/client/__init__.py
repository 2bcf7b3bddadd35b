"""The client: what an application declares, enqueues, looks up and starts engines with."""

from jobcard.client.app import Jobcard

__all__ = ["Jobcard"]
