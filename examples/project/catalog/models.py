"""What is sold. The schema stands in db_table, by the trick that needs no backend of its own."""

from django.db import models


class Vendor(models.Model):
    """Who makes products."""

    name = models.CharField(max_length=100, unique=True)
    country = models.CharField(max_length=2, db_index=True)
    homepage = models.URLField(blank=True)

    class Meta:
        db_table = 'catalog"."vendor'

    def __str__(self):
        return self.name


class Category(models.Model):
    """A tree of kinds."""

    name = models.CharField(max_length=100)
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")

    class Meta:
        db_table = 'catalog"."category'
        verbose_name_plural = "categories"

    def __str__(self):
        return self.name


class Tag(models.Model):
    """A word for a product."""

    word = models.SlugField(unique=True)

    class Meta:
        db_table = 'catalog"."tag'

    def __str__(self):
        return self.word


class Product(models.Model):
    """Something that licences are sold for."""

    vendor = models.ForeignKey(Vendor, models.PROTECT)
    category = models.ForeignKey(Category, models.PROTECT)
    tags = models.ManyToManyField(Tag)
    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=200)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    attributes = models.JSONField(default=dict)
    released = models.DateField(null=True)

    class Meta:
        db_table = 'catalog"."product'
        constraints = [
            models.CheckConstraint(condition=models.Q(price__gte=0), name="price_not_negative")
        ]

    def __str__(self):
        return self.name
