-- Jobs with their versions by ascending id, above one; an error if one of them holds text that cannot be read.
-- Only reads. The server looks at every text, and sends none: much less work than to read them here.
select id, version, convert_from(textsend(concat_ws('', {text_columns})), 'UTF8') is not null
  from {prefix}jobs
 where id > %(after)s
 order by id
 limit %(limit)s
