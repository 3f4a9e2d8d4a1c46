"""Every address of the site on one screen."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.i18n import set_language

from annotate.api import api
from annotate.views import (
    administration,
    api_docs,
    arena,
    browse,
    compare,
    dashboard,
    data,
    dry_runs,
    earlier,
    exporting,
    importing,
    invitations,
    jobs,
    members,
    operations,
    own_keys,
    projects,
    serving,
    tokens,
    training,
    trusting,
    versions,
    webhooks,
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
    path("projects/<slug:slug>/training/", training.training_round, name="training"),
    path("projects/<slug:slug>/training/<int:comparison_id>/", training.training_pair, name="training_pair"),
    # Running a project
    path("projects/<slug:slug>/", dashboard.dashboard, name="dashboard"),
    path("projects/<slug:slug>/charts/<slug:name>.<slug:ext>", dashboard.chart, name="chart"),
    path("projects/<slug:slug>/model/", versions.model, name="model"),
    path("projects/<slug:slug>/model/new/", versions.version_new, name="version_new"),
    path("projects/<slug:slug>/model/fine-tune/", versions.fine_tune, name="fine_tune"),
    path("projects/<slug:slug>/model/check/", versions.refit, name="refit"),
    path("projects/<slug:slug>/model/<int:version_id>/build/", versions.version_build, name="version_build"),
    path(
        "projects/<slug:slug>/model/<int:version_id>/switch/", versions.version_switch, name="version_switch"
    ),
    path("projects/<slug:slug>/model/<int:version_id>/drop/", versions.version_drop, name="version_drop"),
    path(
        "projects/<slug:slug>/model/<int:version_id>/export/", versions.version_export, name="version_export"
    ),
    path("projects/<slug:slug>/model/policies/", serving.policies, name="policies"),
    path("projects/<slug:slug>/model/policies/report/", serving.policies_report, name="policies_report"),
    path("projects/<slug:slug>/deployment/", serving.deployment, name="deployment"),
    path(
        "projects/<slug:slug>/deployment/settings/", serving.deployment_settings, name="deployment_settings"
    ),
    path("projects/<slug:slug>/deployment/link/", serving.deployment_link, name="deployment_link"),
    path("projects/<slug:slug>/deployment/generators/new/", serving.generator_new, name="generator_new"),
    path(
        "projects/<slug:slug>/deployment/generators/<int:generator_id>/",
        serving.generator_change,
        name="generator",
    ),
    path(
        "projects/<slug:slug>/deployment/generators/<int:generator_id>/remove/",
        serving.generator_remove,
        name="generator_remove",
    ),
    # The arena, for members and at its public address
    path("projects/<slug:slug>/arena/", arena.start, name="arena"),
    path("projects/<slug:slug>/arena/ask/", arena.ask, name="arena_ask"),
    path("projects/<slug:slug>/arena/<uuid:request_id>/", arena.turn, name="arena_turn"),
    path("projects/<slug:slug>/arena/<uuid:request_id>/choose/", arena.choose, name="arena_choose"),
    path("arena/<slug:link>/", arena.start, name="public_arena"),
    path("arena/<slug:link>/ask/", arena.ask, name="public_arena_ask"),
    path("arena/<slug:link>/<uuid:request_id>/", arena.turn, name="public_arena_turn"),
    path("arena/<slug:link>/<uuid:request_id>/choose/", arena.choose, name="public_arena_choose"),
    path("projects/<slug:slug>/setup/", administration.project_setup, name="project_setup"),
    path("projects/<slug:slug>/settings/", administration.project_settings, name="project_settings"),
    path("projects/<slug:slug>/manage/", administration.project_manage, name="project_manage"),
    path("projects/<slug:slug>/archive/", administration.project_archive, name="project_archive"),
    path("projects/<slug:slug>/unarchive/", administration.project_unarchive, name="project_unarchive"),
    path("projects/<slug:slug>/duplicate/", administration.project_duplicate, name="project_duplicate"),
    path("projects/<slug:slug>/delete/", administration.project_delete, name="project_delete"),
    path("projects/<slug:slug>/data/", jobs.data, name="data"),
    path("projects/<slug:slug>/data/prompts/", browse.listing, {"name": "prompts"}, name="browse_prompts"),
    path(
        "projects/<slug:slug>/data/responses/", browse.listing, {"name": "responses"}, name="browse_responses"
    ),
    path(
        "projects/<slug:slug>/data/comparisons/",
        browse.listing,
        {"name": "comparisons"},
        name="browse_comparisons",
    ),
    path(
        "projects/<slug:slug>/data/judgments/", browse.listing, {"name": "judgments"}, name="browse_judgments"
    ),
    path("projects/<slug:slug>/data/prompts/<int:prompt_id>/", browse.prompt, name="browse_prompt"),
    path(
        "projects/<slug:slug>/data/comparisons/<int:comparison_id>/",
        browse.comparison,
        name="browse_comparison",
    ),
    path("projects/<slug:slug>/data/judgments/<int:judgment_id>/", browse.judgment, name="browse_judgment"),
    path("projects/<slug:slug>/data/import/", importing.import_page, name="import"),
    path("projects/<slug:slug>/data/import/<int:job_id>/", importing.import_check, name="import_check"),
    path("projects/<slug:slug>/data/export/", exporting.export_page, name="export_page"),
    path("projects/<slug:slug>/data/export/schedule/", exporting.export_schedule, name="export_schedule"),
    path("projects/<slug:slug>/data/dry-runs/", dry_runs.dry_runs, name="dry_runs"),
    path("projects/<slug:slug>/data/dry-runs/<int:job_id>/", dry_runs.dry_run, name="dry_run"),
    path(
        "projects/<slug:slug>/data/dry-runs/<int:job_id>/adopt/", dry_runs.dry_run_adopt, name="dry_run_adopt"
    ),
    path("projects/<slug:slug>/data/jobs/", jobs.jobs_list, name="jobs"),
    path("projects/<slug:slug>/data/jobs/<int:job_id>/", jobs.job_page, name="job"),
    path("projects/<slug:slug>/data/jobs/<int:job_id>/progress/", jobs.job_progress, name="job_progress"),
    path("projects/<slug:slug>/data/jobs/<int:job_id>/cancel/", jobs.job_cancel, name="job_cancel"),
    path("projects/<slug:slug>/data/jobs/<int:job_id>/again/", jobs.job_again, name="job_again"),
    path("projects/<slug:slug>/data/jobs/<int:job_id>/files/<str:name>", jobs.job_file, name="job_file"),
    path("projects/<slug:slug>/export/<str:name>", data.export_download, name="export"),
    path("projects/<slug:slug>/audit/", administration.audit, name="audit"),
    path("projects/<slug:slug>/people/", members.members, name="members"),
    path("projects/<slug:slug>/people/invite/", members.invite, name="invite"),
    path("projects/<slug:slug>/people/<int:user_id>/judgments/", trusting.annotator, name="annotator"),
    path("projects/<slug:slug>/disagreements/", trusting.disagreements, name="disagreements"),
    path("projects/<slug:slug>/disagreements/<int:comparison_id>/", trusting.settle, name="settle"),
    path("projects/<slug:slug>/gold/", trusting.gold, name="gold"),
    path("projects/<slug:slug>/people/<int:membership_id>/role/", members.member_role, name="member_role"),
    path(
        "projects/<slug:slug>/people/<int:membership_id>/remove/", members.member_remove, name="member_remove"
    ),
    path(
        "projects/<slug:slug>/invitations/<int:invitation_id>/revoke/",
        members.invitation_revoke,
        name="invitation_revoke",
    ),
    path(
        "projects/<slug:slug>/invitations/<int:invitation_id>/again/",
        members.invitation_again,
        name="invitation_again",
    ),
    path("projects/<slug:slug>/webhooks/", webhooks.webhooks, name="webhooks"),
    path("projects/<slug:slug>/webhooks/<int:endpoint_id>/", webhooks.webhook, name="webhook"),
    path("projects/<slug:slug>/webhooks/<int:endpoint_id>/test/", webhooks.webhook_test, name="webhook_test"),
    path(
        "projects/<slug:slug>/webhooks/<int:endpoint_id>/secret/",
        webhooks.webhook_secret,
        name="webhook_secret",
    ),
    path(
        "projects/<slug:slug>/webhooks/<int:endpoint_id>/remove/",
        webhooks.webhook_remove,
        name="webhook_remove",
    ),
    path("projects/<slug:slug>/webhooks/sent/<int:delivery_id>/", webhooks.delivery, name="delivery"),
    path(
        "projects/<slug:slug>/webhooks/sent/<int:delivery_id>/again/",
        webhooks.delivery_again,
        name="delivery_again",
    ),
    # People
    path("invitations/<str:token>/", invitations.invitation, name="invitation"),
    path("invitations/<str:token>/account/", invitations.invitation_account, name="invitation_account"),
    path("accounts/keys/", own_keys.own_keys, name="own_keys"),
    path("accounts/tokens/", tokens.own_tokens, name="own_tokens"),
    path("accounts/tokens/<int:token_id>/revoke/", tokens.token_revoke, name="token_revoke"),
    path("accounts/", include("allauth.urls")),
    path("language/", set_language, name="set_language"),
    path("admin/", admin.site.urls),
    # Programs
    path("api/docs/", api_docs.api_docs, name="api_docs"),
    path("api/v1/", api.urls),
    # Operations
    path("health/", operations.alive, name="alive"),
    path("health/ready/", operations.ready, name="ready"),
    path("version/", operations.version, name="version"),
    path("favicon.ico", operations.favicon, name="favicon"),
    path("metrics", operations.metrics_page, name="metrics"),
]
