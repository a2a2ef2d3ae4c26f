"""What orm_checks.py asks, by Django's models, migrations and test runner."""

import io
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import django
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, NotSupportedError, ProgrammingError, close_old_connections, connection, transaction
from django.test.utils import CaptureQueriesContext, get_runner

from python_orm import PUBLIC, answer, lines, told

requests = lines()
given = next(requests)
where, t = given["connection"], given["texts"]
# Migrations are generated, and go with the program.
migrations = tempfile.TemporaryDirectory()
Path(migrations.name, "shop_migrations").mkdir()
Path(migrations.name, "shop_migrations/__init__.py").touch()
sys.path.append(migrations.name)
settings.configure(
    INSTALLED_APPS=["shop"], MIGRATION_MODULES={"shop": "shop_migrations"}, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "HOST": where["host"], "PORT": where["port"], "USER": where["user"], "NAME": where["database"],
        # As with a server of requests: connections are kept, and looked at before a request.
        "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True,
        # Or values would be part of statements.
        "OPTIONS": {"server_side_binding": True}, "TEST": {"TEMPLATE": "shop_template"}}})
django.setup()

from django.db.migrations import AlterField, Migration  # noqa: E402
from django.db.migrations.loader import MigrationLoader  # noqa: E402
from django.db.models import F, Max, TextField, Value  # noqa: E402
from django.db.models.functions import Cast, Concat, Lower  # noqa: E402

from shop import tests  # noqa: E402
from shop.models import Customer, EncryptedTextField, Guest, PlainCustomer, recipe  # noqa: E402


def ended(*argv):
    """The exit code of a command of manage.py."""
    try:
        call_command(*argv, verbosity=0)
    except SystemExit as end:
        return end.code
    return 0


def inspected(table):
    """The model that Django writes for a table of the database."""
    written = io.StringIO()
    call_command("inspectdb", table, stdout=written)
    return written.getvalue().replace(PlainCustomer._meta.db_table, "customers").replace("PlainCustomers", "Customers")


def migrate():
    """Migrations as Django generates them, run by it; whether it then has something to change, and sees columns of text in the database."""
    unmigrated = ended("makemigrations", "--check")
    ended("makemigrations", "shop")
    unapplied = ended("migrate", "--check")
    ended("migrate")
    assert unmigrated and unapplied
    as_text = inspected("customers") == inspected("plain_customers")
    return not ended("makemigrations", "--check") and not ended("migrate", "--check") and as_text


def labels(**conditions):
    return list(Customer.objects.filter(**conditions).order_by("label").values_list("label", flat=True))


def again():
    return {"found": labels(email=t["email"]), "listed": labels(email__in=[t["phone"], t["unicode"]]), "tags": Customer.objects.get(label="second").tags}


def first():
    Customer.objects.create(label="first", email=t["email"])
    saved, absent = Customer.objects.get(label="first"), labels(email=t["phone"])
    Customer.objects.bulk_create([Customer(label=label, email=t[who]) for label, who in (("second", "phone"), ("third", "name"), ("fourth", "unicode"))])
    second = Customer.objects.get(email=t["phone"])
    second.tags = [t["tax id"], t["name"]]
    second.save()
    tagged = recipe(t["email"], t["phone"], t["tax id"])[2]
    PlainCustomer.objects.create(label="first", email=PUBLIC)
    return again() | {
        "inserted": saved.email, "absent": absent, "upserted": Customer.objects.get(label="first").visits, "tagged": [found.label for found in tagged],
        "duplicate": refusal(Customer, t["email"]) == refusal(PlainCustomer, PUBLIC)}


def refusal(model, email):
    """What the errors say of a second customer with this e-mail: of the database's, and of Django's own validation."""
    other = model(label="other", email=email)
    try:
        with transaction.atomic():
            other.save()
    except IntegrityError as error:
        said = [type(error).__name__, *told(error.__cause__, model._meta.db_table)]
    try:
        other.full_clean()
    except ValidationError as error:
        said.append([[field, [(e.code, e.message) for e in errors]] for field, errors in error.error_dict.items()])
    return said


def expressions():
    """What is made of a column: each must be what it is with text."""
    second = Customer.objects.filter(label="second")
    made = second.annotate(joined=Concat("email", Value("!"), output_field=TextField()), lower=Lower("email")).get()
    added = {"label": "first", "visits": 9}
    counted, created = Customer.objects.update_or_create(email=t["email"], defaults={"visits": F("visits") + 1}, create_defaults=added)
    counted.refresh_from_db()
    try:
        with transaction.atomic():
            unordered = Customer.objects.order_by("email").first().label
    except NotSupportedError as error:
        unordered = error.__cause__.sqlstate
    return {"max": second.aggregate(most=Max("email"))["most"], "joined": made.joined == t["phone"] + "!", "lower": made.lower == t["phone"].lower(),
            "starting": labels(email__startswith=t["unicode"][:3]), "containing": labels(email__icontains=t["phone"][4:9]),
            "ordered": Customer.objects.order_by(Cast("email", TextField())).first().label, "unordered": unordered,
            "updated": [counted.visits, created],
            "overlapping": labels(tags__overlap=[t["name"], "absent"]), "equal": labels(tags=[t["tax id"], t["name"]]),
            "distinct": Customer.objects.values("email").distinct().count(), "element": labels(tags__0=t["tax id"])}


def unnested():
    """Rows of one bulk insert into a table without arrays, which Django writes as UNNEST of one array a column."""
    with CaptureQueriesContext(connection) as written:
        Guest.objects.bulk_create([Guest(email=t["email"]), Guest(email=t["name"])])
    is_unnested = any("UNNEST" in query["sql"] for query in written)
    return [is_unnested, *Guest.objects.order_by("id").values_list("email", flat=True), Guest.objects.get(email=t["name"]).id]


def encrypted_later():
    """What a migration makes of the twin's unique column of text, which has a row: its type, and the label found; then, how its reverse fails."""
    migration = Migration("later", "shop")
    migration.operations = [AlterField("plaincustomer", "email", EncryptedTextField("email", "searchable", unique=True))]
    with connection.schema_editor() as editor:
        migration.apply(MigrationLoader(connection).project_state(), editor)
    with connection.cursor() as cursor:
        cursor.execute("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'plain_customers'::regclass AND attname = 'email'")
        gave = [*cursor.fetchone(), PlainCustomer.objects.get(email=PUBLIC).label]
    try:
        with connection.schema_editor() as editor:
            migration.unapply(MigrationLoader(connection).project_state(), editor)
    except ProgrammingError as error:
        gave.append(error.__cause__.sqlstate)
    return gave


def tested():
    """Runs shop/tests.py; the databases that it used if nothing failed."""
    failed = get_runner(settings)(verbosity=0, interactive=False).run_tests(["shop.tests"])
    return None if failed else tests.databases


with redirect_stdout(sys.stderr):
    agrees, in_template = migrate(), tested()
answer(first() | {"agrees": agrees, "expressions": expressions(), "unnested": unnested(), "encrypted_later": encrypted_later(),
                  "tested": in_template})
for request in requests:
    close_old_connections()
    Customer.objects.create(label=request["stage"], email=request["email"])
    answer(again() | {"added": labels(email=request["email"])})
