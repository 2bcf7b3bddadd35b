"""Steps of the schema: `m<number>_<what>.py`, each with `up` and `down`. Older engines go on unless it says not."""
