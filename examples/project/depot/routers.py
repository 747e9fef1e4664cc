"""Which alias holds which app, written by hand as Django asks for it."""

ALIASES = {"catalog": "data", "licensing": "data", "places": "geo"}


def _alias(app_label):
    return ALIASES.get(app_label, "default")


class ByApp:
    """Routes each app to its alias; `default` and `data` are one database."""

    def db_for_read(self, model, **hints):
        return _alias(model._meta.app_label)

    db_for_write = db_for_read

    def allow_relation(self, one, other, **hints):
        aliases = {_alias(one._meta.app_label), _alias(other._meta.app_label)}
        return aliases <= {"default", "data"} or len(aliases) == 1

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return db == _alias(app_label)
