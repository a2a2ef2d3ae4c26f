"""The models of orm.py."""

from sqlalchemy import Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from encrypted import EncryptedText


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(EncryptedText("email", "searchable"), unique=True)
    visits: Mapped[int]
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(EncryptedText()))


class PlainCustomer(Base):
    __tablename__ = "plain_customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text, unique=True)
    visits: Mapped[int]
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
