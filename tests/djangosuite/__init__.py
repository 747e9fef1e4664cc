"""Django's own test suite as the judge of `howdah.django`: `make test-django`.

The suite of one Django version (its sdist carries it) runs three times on a
server of its own: with Django's own ENGINE, with ours ("as is"), and with
ours and the tables of every app in a schema of its own ("schemas"). What
each test gave is compared with what it gave under Django's own ENGINE, test
by test. A test may differ only where `differs/` lists it by name, under its
reason, and must differ there: one where a dot in a name means a schema, and in
"schemas" those that name tables without asking the model.
"""
