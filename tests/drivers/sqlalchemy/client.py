"""Uses SQLAlchemy's ORM on psycopg on the tables of tests/drivers/driver_checks.py; prints what the check on stdin gave."""

import json
import sys

from sqlalchemy import ARRAY, URL, Index, Text, any_, cast, create_engine, event, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

import encrypted
from encrypted import Base
from encrypted import CastEncryptedText as EncryptedText


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(EncryptedText("email", "searchable"))


class Account(Base):
    __tablename__ = "accounts"
    email: Mapped[str] = mapped_column(EncryptedText("email", "searchable"), primary_key=True)
    visits: Mapped[int]


class Letter(Base):
    __tablename__ = "letters"
    address: Mapped[str] = mapped_column(Text, primary_key=True)
    subject: Mapped[str] = mapped_column(Text)


class Guest(Base):
    """Made by create_schema."""
    __tablename__ = "guests"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(EncryptedText("email", "searchable"))
    note: Mapped[str | None] = mapped_column(EncryptedText())
    __table_args__ = (Index("guests_email", "email", postgresql_using="hash"),)


def search(session):
    email, unicode = t["email"], t["unicode"]
    conditions = {
        "==": Person.email == email, "absent": Person.email == "absent", "in_": Person.email.in_([email, unicode]),
        "any_": Person.email == any_(cast([email, unicode], ARRAY(Text))), "literal": literal(unicode) == Person.email}
    # Often enough to be prepared, with a generic plan.
    gave = {name: [session.scalars(select(Person.id).where(c).order_by(Person.id)).all() for _ in range(12)] for name, c in conditions.items()}
    plans = {name: explain(session, select(Person.id).where(c)) for name, c in conditions.items()}
    prepared = session.scalar(text("SELECT bool_or(generic_plans > 0) FROM pg_prepared_statements WHERE statement LIKE '%people.email =%'"))
    return {"ids": gave, "plans": plans, "prepared": prepared,
            "null": session.scalars(select(Person.id).where(Person.email.is_(None))).all(),
            "not": session.scalars(select(Person.id).where(Person.email != email, Person.id < 1000).order_by(Person.id)).all()}


def explain(session, statement):
    return [line for line, in session.execute(statement, execution_options={"explain": True})]


def write_and_read(session):
    session.add_all([Person(id=100 + i, email=value) for i, value in enumerate(t.values())])
    session.execute(insert(Person), [{"id": 200, "email": None}, {"id": 201, "email": t["phone"]}])
    session.commit()
    person = session.scalars(select(Person).where(Person.email == t["name"], Person.id > 99)).one()
    person.email = t["phone"]
    session.commit()
    return {"read": [[p.id, p.email] for p in session.scalars(select(Person).where(Person.id.between(100, 201)).order_by(Person.id))],
            "bare": session.execute(text("SELECT email FROM people WHERE id = 100")).scalar(),
            "cast": session.scalars(select(cast(Person.email, Text)).where(Person.id == 100)).one(),
            "max": session.scalars(select(func.max(Person.email)).where(Person.id == 100)).one(),
            "concatenated": session.scalars(select(Person.email + "!").where(Person.id == 100)).one(),
            "output": session.execute(text("SET prism_crypt.output = 'plaintext'")) and session.execute(
                text("SELECT email FROM people WHERE id = 100")).scalar()}


def upsert(session):
    statement = insert(Account).returning(Account.email, Account.visits)
    statement = statement.on_conflict_do_update(index_elements=[Account.email], set_={"visits": Account.visits + statement.excluded.visits})
    counted = [session.execute(statement, {"email": email, "visits": 2}).one() for email in [t["email"], t["name"], t["email"]] * 5]
    keep = insert(Account).on_conflict_do_nothing(index_elements=[Account.email]).returning(Account.visits)
    kept = [session.scalars(keep, {"email": email, "visits": 99}).all() for email in (t["name"], t["phone"])]
    session.commit()
    session.add(Account(email=t["email"], visits=1))
    return {"counted": [list(row) for row in counted], "kept": kept, "twice": refusal(session, session.flush)}


def join_and_group(session):
    session.add_all([Account(email=t["email"], visits=1), Account(email=t["tax id"], visits=2)])
    session.flush()
    other = aliased(Person)
    people = select(Person.id).order_by(Person.id)
    return {"text": session.scalars(people.join(Letter, Letter.address == Person.email).where(Letter.subject == "first")).all(),
            "encrypted": session.scalars(people.join(Account, Account.email == Person.email)).all(),
            "itself": session.scalars(people.join(other, (other.email == Person.email) & (other.id != Person.id))).all(),
            "groups": sorted([n, email] for email, n in session.execute(
                select(Person.email, func.count()).where(Person.id.in_([1, 2, 7])).group_by(Person.email)))}


def refused(session):
    row = select(Person.id).where(Person.email == t["phone"])
    return {"search": refusal(session, lambda: session.scalars(row).all()),
            "insert": refusal(session, lambda: session.execute(insert(Person), {"id": 99, "email": t["phone"]})),
            "order": refusal(session, lambda: session.scalars(select(Person.id).order_by(Person.email)).all()),
            "range": refusal(session, lambda: session.scalars(select(Person.id).where(Person.email < "x")).all()),
            "read": session.scalars(select(Person.email).where(Person.id == 3)).all()}


def refusal(session, do):
    """The SQLSTATE of an error, and what it says."""
    try:
        do()
    except DBAPIError as error:
        session.rollback()
        return [error.orig.sqlstate, str(error)]
    return None


def create_schema(session):
    Base.metadata.create_all(session.connection(), [Guest.__table__])
    session.add(Guest(email=t["email"]))
    session.commit()
    return session.scalars(text("""SELECT pg_get_indexdef('guests_email'::regclass) UNION ALL SELECT format_type(atttypid, atttypmod)
        FROM pg_attribute WHERE attrelid = 'guests'::regclass AND attnum > 1 ORDER BY 1""")).all()


def recipe(session):
    return encrypted.recipe(session, t["name"], t["email"], t["phone"])


given = json.load(sys.stdin)
where, t = given["connection"], given["texts"]
url = URL.create("postgresql+psycopg", where["user"], host=where["host"], port=where["port"], database=where["database"])
engine = create_engine(url, hide_parameters=True)


@event.listens_for(engine, "before_cursor_execute", retval=True)
def prefix_explain(_connection, _cursor, statement, parameters, context, _executemany):
    return ("EXPLAIN " if context.execution_options.get("explain") else "") + statement, parameters


with Session(engine) as session:
    checks = (search, write_and_read, upsert, join_and_group, refused, create_schema, recipe)
    json.dump({c.__name__: c for c in checks}[given["check"]](session), sys.stdout)
