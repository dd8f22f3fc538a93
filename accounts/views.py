"""What django-allauth has no page for."""

from __future__ import annotations

from allauth.usersessions.internal.flows.sessions import end_sessions
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from events import audit


@require_POST
@login_required
def end_session(request: HttpRequest, session_id: int) -> HttpResponseRedirect:
    """Sign one of the person's own sessions out. Ending the one in use signs out here."""
    session = UserSession.objects.filter(pk=session_id, user_id=request.user.pk).first()
    if session is None:
        raise Http404
    actor = audit.actor_of(request)
    with transaction.atomic():
        target = audit.Target("session", str(session.pk), f"{session.ip} {session.user_agent}")
        audit.record("user.session_end", actor=actor, target=target)
        end_sessions(request, [session])
    messages.success(request, _("That session is signed out."))
    return HttpResponseRedirect(reverse("usersessions_list"))
