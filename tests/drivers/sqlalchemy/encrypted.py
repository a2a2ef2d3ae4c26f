"""What docs/recipes-clients.md says of SQLAlchemy."""

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


# recipe
from sqlalchemy import Text, cast, select, type_coerce
from sqlalchemy.dialects.postgresql import base, insert
from sqlalchemy.types import UserDefinedType

class EncryptedText(UserDefinedType):
    cache_ok = True
    comparator_factory = Text.comparator_factory

    def __init__(self, field=None, search=None):
        self.field, self.search = field, search

    def get_col_spec(self, **kw):
        modifiers = ",".join(filter(None, (self.field, self.search)))
        return f"encrypted_text({modifiers})" if modifiers else "encrypted_text"

base.ischema_names["encrypted_text"] = EncryptedText       # for reflection and Alembic

class Patient(Base):
    __tablename__ = "patients"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(EncryptedText())
    email: Mapped[str] = mapped_column(EncryptedText("email", "searchable"), unique=True)
# end of recipe


def recipe(session, name, email, other):
    # recipe
    session.add_all([Patient(name=name, email=email), Patient(name=name, email=other)])
    session.flush()
    patient = session.scalars(select(Patient).where(Patient.email == email)).one()
    both = session.scalars(select(Patient.id).where(Patient.email.in_([email, other])).order_by(Patient.id)).all()
    upsert = insert(Patient).values(name=name, email=email)
    upsert = upsert.on_conflict_do_update(index_elements=[Patient.email], set_={"name": upsert.excluded.name})
    upserted = session.scalars(upsert.returning(Patient.id)).one()
    # end of recipe
    return {"row": [patient.id, patient.name, patient.email], "rows": [[i] for i in both], "upserted": upserted}


# recipe
class CastEncryptedText(EncryptedText):
    cache_ok = True

    def bind_expression(self, bindvalue):
        return cast(bindvalue, Text)

    def column_expression(self, column):
        return type_coerce(cast(column, Text), self)
# end of recipe
