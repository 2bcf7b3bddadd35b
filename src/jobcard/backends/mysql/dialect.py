"""What MySQL and MariaDB call things, in the words that stand in the statements of `backends/sql`."""

from __future__ import annotations

from jobcard.backends.mysql.errors import translate
from jobcard.backends.sql.dialect import Dialect

MYSQL = Dialect(
    name="MySQL",
    package=__package__,
    translate=translate,
    # Not sysdate(): it moves from row to row, so no index can be searched by it.
    now="timestampdiff(microsecond, '1970-01-01', utc_timestamp(6))",
    id_text="insert(insert(insert(insert(lower(hex(job.id)), 21, 0, '-'), 17, 0, '-'), 13, 0, '-'), 9, 0, '-')",
    tagged="case when json_valid(job.tags) then json_contains(job.tags, {tag}) end",
    quote="`",
    # Left to itself it chooses by statistics, which are wrong for a queue most of the time.
    along=" force index ({index})",
    join="straight_join",
    # Nothing changes; `n = n` would fail, since it counts by itself.
    or_skip="on duplicate key update version = version",
    # MariaDB knows no other word.
    for_share="lock in share mode",
    div="div",
    some="limit 5000",
    here="database()",
    # What is in UTF-8 by its column is; somebody may have made bytes of one.
    unreadable="charset(concat_ws('-', {texts})) = 'binary' and not (concat_ws('-', {texts})"
    " <=> cast(convert(concat_ws('-', {texts}) using utf8mb4) as binary))",
    writes=("insert", "update", "delete"),
    own_value="elt(field(n, %(refs)s), {values})",
)
