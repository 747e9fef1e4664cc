"""Who may use what, and what they paid.

Customers, licences and activations go where search_path or settings put the
app; invoices name their schema.
"""

import uuid

from catalog.models import Product
from django.conf import settings
from django.db import models


class Customer(models.Model):
    """Who buys licences."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE)
    company = models.CharField(max_length=100, db_index=True)
    since = models.DateTimeField()

    def __str__(self):
        return self.company


class Licence(models.Model):
    """The right of a customer to use a product."""

    customer = models.ForeignKey(Customer, models.CASCADE)
    product = models.ForeignKey(Product, models.PROTECT)
    key = models.UUIDField(default=uuid.uuid4, unique=True)
    seats = models.PositiveIntegerField(default=1)
    starts = models.DateField()
    ends = models.DateField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "product", "starts"], name="one_licence_a_day"
            )
        ]
        indexes = [models.Index(fields=["product", "ends"], name="licence_product_ends")]

    def __str__(self):
        return str(self.key)


class Activation(models.Model):
    """A use of a licence on a machine."""

    licence = models.ForeignKey(Licence, models.CASCADE)
    address = models.GenericIPAddressField()
    at = models.DateTimeField(db_index=True)

    def __str__(self):
        return f"{self.licence} from {self.address}"


class Invoice(models.Model):
    """What a customer owes."""

    customer = models.ForeignKey(Customer, models.PROTECT)
    number = models.CharField(max_length=20, unique=True)
    issued = models.DateField()
    paid = models.BooleanField(default=False)

    class Meta:
        db_table = 'billing"."invoice'

    def __str__(self):
        return self.number


class InvoiceLine(models.Model):
    """One licence on an invoice."""

    invoice = models.ForeignKey(Invoice, models.CASCADE, related_name="lines")
    licence = models.ForeignKey(Licence, models.PROTECT)
    amount = models.DecimalField(max_digits=12, decimal_places=2)

    class Meta:
        db_table = 'billing"."invoice_line'

    def __str__(self):
        return f"{self.invoice}: {self.amount}"
