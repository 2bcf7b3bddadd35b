-- Lets this connection write to a sealed store: for migrations, and for whoever empties it.
-- Nobody else is let in by it.
set @jobcard_passes = 1
