-- What somebody's connection is set to: how it takes quotes and texts that are too long, which characters it speaks, the
-- largest packet.
-- Only reads.
select @@session.sql_mode, @@session.character_set_client, @@session.character_set_connection,
       @@session.character_set_results, @@session.max_allowed_packet
