-- Takes one trigger of the barrier away.
-- Waits for whoever has the table open; run under the lock of a migration, and only while there is no word of the seal.
drop trigger if exists {trigger}
