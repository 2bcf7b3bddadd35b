"""The views: what each page, and each part of one, finds in the store."""
