"""The write path of membership: invite, accept, withdraw, change a role, remove.

An invitation's token is seen by the person who made it and by the person who uses it; the row keeps its SHA-256
digest. It works once: the update that stamps it as accepted is what decides between two who come at the same time.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from allauth.account.models import EmailAddress
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import auditing, serving
from annotate.errors import TouchstoneError
from annotate.models import Invitation, Lease, Membership, Project, Role, User

DAYS = (1, 7, 30)
MOST_AT_ONCE = 50
MOST_OPEN = 500


@dataclass(frozen=True)
class Invited:
    """An invitation with its token, which is nowhere else."""

    invitation: Invitation
    token: str


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def open_invitations(project: Project) -> QuerySet[Invitation]:
    now = timezone.now()
    return project.invitations.filter(accepted_at=None, revoked_at=None, expires_at__gt=now)


def unused_invitations(project: Project) -> QuerySet[Invitation]:
    """Open ones, and those that ran out in the last month: what may be sent again."""
    lately = timezone.now() - timedelta(days=30)
    return project.invitations.filter(accepted_at=None, revoked_at=None, expires_at__gt=lately)


def invite(
    project: Project, actor: User, role: str, emails: Sequence[str] = (), days: int = 7
) -> list[Invited]:
    """One invitation for each address, or one for anyone with the link; an older one of the same address ends."""
    addresses = list(dict.fromkeys(email.strip().lower() for email in emails)) or [""]
    check_invitation(project, role, addresses, days)
    now = timezone.now()
    with transaction.atomic():
        told = [address for address in addresses if address]
        open_invitations(project).filter(email__in=told).update(revoked_at=now)
        made = []
        for address in addresses:
            token = secrets.token_urlsafe(32)
            row = Invitation.objects.create(
                project=project,
                role=role,
                email=address,
                token_digest=digest(token),
                created_by=actor,
                created_at=now,
                expires_at=now + timedelta(days=days),
            )
            auditing.record(project, actor, "invited", row.email or auditing.ANYONE, role=role, days=days)
            made.append(Invited(row, token))
    return made


def invite_again(invitation: Invitation, actor: User, days: int = 7) -> Invited:
    """A new link for the same person and role, for another week; the old link is dead from now on."""
    with transaction.atomic():
        unused = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None)
        if not unused.update(revoked_at=timezone.now()):
            raise TouchstoneError(_("This invitation was used or withdrawn meanwhile."), code="gone")
        emails = [invitation.email] if invitation.email else []
        return invite(invitation.project, actor, invitation.role, emails, days)[0]


def check_invitation(project: Project, role: str, addresses: list[str], days: int) -> None:
    if role not in Role.values:
        raise TouchstoneError(_("There is no such role."))
    if days not in DAYS:
        raise TouchstoneError(_("An invitation holds for 1, 7 or 30 days."))
    if len(addresses) > MOST_AT_ONCE:
        raise TouchstoneError(_("At most {most} people at once.").format(most=MOST_AT_ONCE))
    if open_invitations(project).count() + len(addresses) > MOST_OPEN:
        raise TouchstoneError(_("Too many invitations are open; withdraw some first."), code="limit")
    for address in filter(None, addresses):
        check_address(project, address)


def check_address(project: Project, address: str) -> None:
    try:
        validate_email(address)
    except ValidationError:
        raise TouchstoneError(_("{address} is not an e-mail address.").format(address=address[:80])) from None
    if project.memberships.filter(user__email__iexact=address).exists():
        raise TouchstoneError(_("{address} is in this project already.").format(address=address))


def name_of(invitation: Invitation) -> str:
    return invitation.email or _(auditing.ANYONE)


def valid_invitation(token: str) -> Invitation:
    """The invitation that this token opens now; otherwise why it does not."""
    rows = Invitation.objects.select_related("project", "created_by")
    invitation = rows.filter(token_digest=digest(token)).first()
    if invitation is None:
        raise TouchstoneError(_("There is no such invitation. Was the link copied whole?"), code="gone")
    refuse_closed(invitation)
    return invitation


def refuse_closed(invitation: Invitation) -> None:
    """A closed invitation tells nothing about its project."""
    if invitation.accepted_at:
        raise TouchstoneError(_("This invitation was used already. It works once."), code="gone")
    if invitation.revoked_at:
        raise TouchstoneError(_("This invitation was withdrawn. Ask for a new one."), code="gone")
    if invitation.expires_at <= timezone.now():
        raise TouchstoneError(_("This invitation ran out. Ask for a new one."), code="gone")


def accept(token: str, user: User) -> Membership:
    """Join the project in the invitation's role. A member who opens it keeps role and invitation as they are."""
    with transaction.atomic():
        invitation = valid_invitation(token)
        if invitation.email and invitation.email != user.email.lower():
            raise TouchstoneError(
                _(
                    "This invitation is for another e-mail address. Sign in with that account, or ask for a new one."
                ),
                code="forbidden",
            )
        if member := Membership.objects.filter(project=invitation.project, user=user).first():
            return member
        return use(invitation, user)


def use(invitation: Invitation, user: User) -> Membership:
    """Stamp the invitation and make the membership. The caller's transaction undoes both or neither."""
    stamped = open_invitations(invitation.project).filter(pk=invitation.pk)
    if not stamped.update(accepted_at=timezone.now(), accepted_by=user):
        raise TouchstoneError(_("This invitation was used already. It works once."), code="gone")
    auditing.record(invitation.project, user, "joined", user.name, role=invitation.role)
    return Membership.objects.create(project=invitation.project, user=user, role=invitation.role)


def join_as_stranger(token: str, username: str, email: str, password: str) -> User:
    """Make an account through an invitation, also while sign-up is closed; the invitation's address decides."""
    with transaction.atomic():
        invitation = valid_invitation(token)
        user = User(username=username.strip(), email=(invitation.email or email.strip()).lower())
        check_account(user, password)
        user.set_password(password)
        store_account(user)
        if user.email:
            EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=False)
        use(invitation, user)
    return user


def store_account(user: User) -> None:
    """Whoever sent the form twice, or took the name at this moment, made the account that is there."""
    try:
        user.save(force_insert=True)
    except IntegrityError:
        raise TouchstoneError(_("This user name is taken."), code="username") from None


def check_account(user: User, password: str) -> None:
    if "@" in user.username or user.username.lower().startswith("synthetic-"):
        # One signs in by name or address, so neither may look like the other; synthetic names are the learner's.
        raise TouchstoneError(_("Choose another user name: letters, digits, . + - and _."), code="username")
    if User.objects.filter(username__iexact=user.username).exists():
        raise TouchstoneError(_("This user name is taken."), code="username")
    if user.email and User.objects.filter(email__iexact=user.email).exists():
        raise TouchstoneError(
            _("There is an account with this e-mail address: sign in instead."), code="email"
        )
    try:
        user.clean_fields(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        code = next(iter(error.message_dict)) if hasattr(error, "error_dict") else "password"
        raise TouchstoneError(" ".join(error.messages), code=code) from None


def revoke(invitation: Invitation, actor: User) -> None:
    """Close an invitation that nobody used; doing it twice is doing it once."""
    open_rows = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None)
    with transaction.atomic():
        if open_rows.update(revoked_at=timezone.now()):
            subject = invitation.email or auditing.ANYONE
            auditing.record(invitation.project, actor, "revoked", subject, role=invitation.role)


def change_role(membership: Membership, actor: User, role: str) -> None:
    if role not in Role.values:
        raise TouchstoneError(_("There is no such role."))
    with transaction.atomic():
        locked = locked_membership(membership)
        if locked.role == role:
            return
        keep_an_admin(locked)
        before, locked.role = locked.role, role
        locked.save(update_fields=["role"])
        close_door(locked, before)
        auditing.record(locked.project, actor, "role", locked.user.name, role=[before, role])


def remove(membership: Membership, actor: User) -> None:
    """Take somebody out. Their open leases return to the others; their judgments stay."""
    with transaction.atomic():
        leases = locked_leases(membership)  # before the project, as whoever answers at this moment does
        locked = locked_membership(membership)
        keep_an_admin(locked)
        for lease in leases:
            serving.close(lease, Lease.Outcome.EXPIRED, timezone.now(), "removed")
        close_door(locked, locked.role)
        returned = len(leases)
        auditing.record(locked.project, actor, "removed", locked.user.name, role=locked.role, leases=returned)
        locked.delete()


def locked_membership(membership: Membership) -> Membership:
    """The membership as it is now. The project's row is locked first: two admins cannot remove each other."""
    Project.objects.select_for_update(no_key=True).get(pk=membership.project_id)
    found = Membership.objects.select_related("project", "user").filter(pk=membership.pk).first()
    if found is None:
        raise TouchstoneError(_("This person is not in the project any more."), code="gone")
    return found


def locked_leases(membership: Membership) -> list[Lease]:
    """The pairs on the member's screen."""
    mine = Lease.objects.filter(project=membership.project_id, annotator=membership.user_id)
    return list(mine.filter(outcome=Lease.Outcome.OPEN).select_for_update().order_by("id"))


def keep_an_admin(membership: Membership) -> None:
    others = membership.project.memberships.filter(role=Role.ADMIN, user__is_active=True)
    if membership.role == Role.ADMIN and not others.exclude(pk=membership.pk).exists():
        raise TouchstoneError(_("A project needs an admin: make somebody else admin first."))


def close_door(membership: Membership, before: str) -> None:
    """Whoever is admin no longer has no invitations of their own left to come back by."""
    if before == Role.ADMIN:
        own = open_invitations(membership.project).filter(created_by=membership.user)
        own.update(revoked_at=timezone.now())
