"""Jobs in MongoDB: `mongodb://`, `mongodb+srv://`."""

from jobcard.backends.mongodb.backend import MongoBackend

__all__ = ["MongoBackend"]
