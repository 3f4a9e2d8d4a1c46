"""What a deployment runs before its services start: tables, and the first account."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from annotate.accounts import first_accounts


class Command(BaseCommand):
    help = "Migrate the database and make the first account (ADMIN_EMAIL, ADMIN_PASSWORD) if there is none."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=1, interactive=False)
        for account in first_accounts(demo=False):
            self.stdout.write(f"{account.role}  {account.username}  {account.password}")
