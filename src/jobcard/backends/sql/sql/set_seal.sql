-- Records the word that the store is sealed with; null: it is in use.
-- Safe at once with others: whoever writes under the barrier holds this row until its transaction ends, and is waited
-- for; whoever comes later reads the word.
update {prefix}meta set word = %(word)s where name = 'seal'
