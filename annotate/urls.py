"""Every address of the site on one screen."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from annotate.views import (
    administration,
    compare,
    dashboard,
    data,
    earlier,
    invitations,
    members,
    operations,
    own_keys,
    projects,
    trusting,
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("", projects.home, name="home"),
    path("projects/new/", administration.project_new, name="project_new"),
    # Comparing
    path("projects/<slug:slug>/compare/", compare.compare, name="compare"),
    path("projects/<slug:slug>/leases/<uuid:lease_id>/judgment/", compare.judge, name="judge"),
    path("projects/<slug:slug>/leases/<uuid:lease_id>/skip/", compare.skip, name="skip"),
    path("projects/<slug:slug>/undo/", compare.undo, name="undo"),
    path("projects/<slug:slug>/renew/", compare.renew, name="renew"),
    path("projects/<slug:slug>/guidelines/seen/", compare.acknowledge, name="acknowledge"),
    path("projects/<slug:slug>/earlier/", earlier.earlier, name="earlier"),
    path("projects/<slug:slug>/earlier/<int:judgment_id>/", earlier.change, name="change"),
    # Running a project
    path("projects/<slug:slug>/", dashboard.dashboard, name="dashboard"),
    path("projects/<slug:slug>/charts/<slug:name>.<slug:ext>", dashboard.chart, name="chart"),
    path("projects/<slug:slug>/setup/", administration.project_setup, name="project_setup"),
    path("projects/<slug:slug>/settings/", administration.project_settings, name="project_settings"),
    path("projects/<slug:slug>/manage/", administration.project_manage, name="project_manage"),
    path("projects/<slug:slug>/archive/", administration.project_archive, name="project_archive"),
    path("projects/<slug:slug>/unarchive/", administration.project_unarchive, name="project_unarchive"),
    path("projects/<slug:slug>/duplicate/", administration.project_duplicate, name="project_duplicate"),
    path("projects/<slug:slug>/delete/", administration.project_delete, name="project_delete"),
    path("projects/<slug:slug>/export/<str:name>", data.export_download, name="export"),
    path("projects/<slug:slug>/audit/", administration.audit, name="audit"),
    path("projects/<slug:slug>/people/", members.members, name="members"),
    path("projects/<slug:slug>/people/invite/", members.invite, name="invite"),
    path("projects/<slug:slug>/people/<int:user_id>/judgments/", trusting.annotator, name="annotator"),
    path("projects/<slug:slug>/disagreements/", trusting.disagreements, name="disagreements"),
    path("projects/<slug:slug>/disagreements/<int:comparison_id>/", trusting.settle, name="settle"),
    path("projects/<slug:slug>/gold/", trusting.gold, name="gold"),
    path("projects/<slug:slug>/people/<int:membership_id>/role/", members.member_role, name="member_role"),
    path("projects/<slug:slug>/people/<int:membership_id>/remove/", members.member_remove, name="member_remove"),
    path(
        "projects/<slug:slug>/invitations/<int:invitation_id>/revoke/",
        members.invitation_revoke,
        name="invitation_revoke",
    ),
    # People
    path("invitations/<str:token>/", invitations.invitation, name="invitation"),
    path("invitations/<str:token>/account/", invitations.invitation_account, name="invitation_account"),
    path("accounts/keys/", own_keys.own_keys, name="own_keys"),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    # Operations
    path("health/", operations.alive, name="alive"),
    path("health/ready/", operations.ready, name="ready"),
    path("version/", operations.version, name="version"),
]
