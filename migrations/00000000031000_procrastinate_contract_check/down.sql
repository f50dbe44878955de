-- The check changed nothing, so there is nothing to revert.
SELECT;
