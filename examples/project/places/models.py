"""Where products are used. Regions stand in public, beside PostGIS, as in many projects."""

from django.contrib.gis.db import models


class Region(models.Model):
    """An area with a name."""

    name = models.CharField(max_length=100, unique=True)
    boundary = models.MultiPolygonField()

    def __str__(self):
        return self.name


class Site(models.Model):
    """A building."""

    region = models.ForeignKey(Region, models.CASCADE)
    name = models.CharField(max_length=100)
    location = models.PointField(geography=True)

    class Meta:
        db_table = 'places"."site'

    def __str__(self):
        return self.name


class Visit(models.Model):
    """A survey of a site."""

    site = models.ForeignKey(Site, models.CASCADE)
    at = models.DateTimeField()
    covered = models.PolygonField(null=True)
    notes = models.TextField(blank=True)

    class Meta:
        db_table = 'survey"."visit'

    def __str__(self):
        return f"{self.site} at {self.at}"
