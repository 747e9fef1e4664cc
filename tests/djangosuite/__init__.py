"""Django's own test suite as the judge of `howdah.django`: `make test-django`.

The suite of one Django version (its sdist carries it) runs three times on a
server of its own: with Django's own ENGINE, with ours ("as is"), and with
ours and the tables of every app in a schema of its own ("schemas"). What
each test gave is compared with what it gave under Django's own ENGINE, test
by test. "As is" may differ nowhere; "schemas" may differ in the tests that
`differs/` lists by name, each under its reason, and must differ in those.
"""
