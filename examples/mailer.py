"""Send mails in the background: retries when the server is down, and no mail twice.

    jobcard start mailer:jobs                                   the engine
    jobcard enqueue mailer:jobs mail.send --args '["ann@example.org", "Welcome"]'

The "server" is a directory, `outbox`, so that you can look. Without it the jobs are tried again until it is there.
"""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

from jobcard import Backoff, Fail, Jobcard, JobContext, Queue, Retry

jobs = Jobcard("sqlite:///mailer.db", queues=[Queue("mail", concurrency=2)])
OUTBOX = Path("outbox")


@jobs.job(name="mail.send", queue="mail", max_attempts=20, timeout=30, backoff=Backoff.exponential(base=0.2, limit=60))
def send(ctx: JobContext, to: str, subject: str, body: str = "") -> str:
    """Send one mail; its id is the job's, so a repeated try is the same mail."""
    if "@" not in to:
        raise Fail(f"{to!r} is no address")  # trying again would not help
    if not OUTBOX.is_dir():
        raise Retry("the mail server is down")
    mail = EmailMessage()
    mail["To"], mail["Subject"], mail["Message-ID"] = to, subject, f"<{ctx.job.id}@example.org>"
    mail.set_content(body)
    # Written aside and put in place in one step: a try that dies half-way leaves no half mail.
    draft = OUTBOX / f".{ctx.job.id}.{ctx.token}"
    draft.write_bytes(bytes(mail))
    draft.rename(OUTBOX / f"{ctx.job.id}.eml")
    return str(mail["Message-ID"])
