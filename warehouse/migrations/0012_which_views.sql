-- Views are made again only where they are not those of the installed tracelab.

COMMENT ON TABLE schema_migrations IS 'One row per migration applied to this database, and one for its views.';
COMMENT ON COLUMN schema_migrations.version IS 'Its number; migrations are applied in this order, once. 0: the views as they are now.';
