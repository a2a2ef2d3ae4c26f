"""What docs/recipes-clients.md says of Django."""

# recipe
from django.contrib.postgres.fields import ArrayField
from django.db import models

class EncryptedTextField(models.TextField):
    def __init__(self, *modifiers, **options):
        self.modifiers = modifiers
        super().__init__(**options)

    def deconstruct(self):
        name, path, _, options = super().deconstruct()
        return name, path, self.modifiers, options

    def db_type(self, connection):
        return f"encrypted_text({','.join(self.modifiers)})" if self.modifiers else "encrypted_text"

class Customer(models.Model):
    label = models.TextField()
    email = EncryptedTextField("email", "searchable", unique=True)
    visits = models.IntegerField(default=1)
    tags = ArrayField(EncryptedTextField(), null=True)
    # end of recipe

    class Meta:
        db_table = "customers"


class PlainCustomer(models.Model):
    label = models.TextField()
    email = models.TextField(unique=True)
    visits = models.IntegerField(default=1)
    tags = ArrayField(models.TextField(), null=True)

    class Meta:
        db_table = "plain_customers"


class Guest(models.Model):
    email = EncryptedTextField("email", "searchable", unique=True)


def recipe(email, other, tag):
    # recipe
    customer = Customer.objects.get(email=email)
    both = Customer.objects.filter(email__in=[email, other])
    tagged = Customer.objects.filter(tags__contains=[tag])
    again = Customer(label="other", email=email, visits=customer.visits + 1)
    Customer.objects.bulk_create([again], update_conflicts=True, unique_fields=["email"], update_fields=["visits"])
    # end of recipe
    return customer, both, tagged
