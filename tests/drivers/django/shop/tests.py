"""Run by Django's test runner, in a database that it makes from the template."""

from django.db import IntegrityError, connection, transaction
from django.test import TestCase

from shop.models import Customer

databases = []


class CustomerTest(TestCase):
    def test_customer(self):
        databases.append(connection.settings_dict["NAME"])
        Customer.objects.create(label="tested", email="public@example.org", tags=["public"])
        self.assertEqual(Customer.objects.get(email="public@example.org").tags, ["public"])
        with self.assertRaises(IntegrityError), transaction.atomic():
            Customer.objects.create(label="twice", email="public@example.org")
        self.assertEqual(Customer.objects.count(), 1)
