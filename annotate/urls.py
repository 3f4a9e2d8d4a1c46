"""Every address of the site on one screen."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from annotate.views import compare, operations, projects

urlpatterns: list[URLPattern | URLResolver] = [
    path("", projects.home, name="home"),
    # Comparing
    path("projects/<slug:slug>/compare/", compare.compare, name="compare"),
    path("projects/<slug:slug>/leases/<uuid:lease_id>/judgment/", compare.judge, name="judge"),
    path("projects/<slug:slug>/leases/<uuid:lease_id>/skip/", compare.skip, name="skip"),
    path("projects/<slug:slug>/undo/", compare.undo, name="undo"),
    path("projects/<slug:slug>/renew/", compare.renew, name="renew"),
    # People
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    # Operations
    path("health/", operations.alive, name="alive"),
    path("health/ready/", operations.ready, name="ready"),
    path("version/", operations.version, name="version"),
]
