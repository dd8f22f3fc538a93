"""Pages that join several apps."""

from __future__ import annotations

from django.urls import path

from console import (
    account_views,
    audit_views,
    health,
    home_views,
    invitation_views,
    key_views,
    limit_views,
    organization_views,
    playground_views,
    target_views,
)

urlpatterns = [
    path("", home_views.home, name="home"),
    path("workspace", home_views.switch_workspace, name="switch_workspace"),
    path("settings/account", account_views.account, name="account_settings"),
    path("settings/account/activity", audit_views.account, name="account_activity"),
    path("settings/organization", organization_views.general, name="organization"),
    path("settings/organization/new", organization_views.new, name="organization_new"),
    path("settings/organization/second-factor", organization_views.second_factor, name="second_factor"),
    path("settings/organization/members", organization_views.members_page, name="organization_members"),
    path("settings/organization/members/<uuid:member_id>", organization_views.member, name="organization_member"),
    path(
        "settings/organization/members/<uuid:member_id>/remove", organization_views.remove, name="organization_remove"
    ),
    path("settings/organization/leave", organization_views.leave, name="organization_leave"),
    path("settings/organization/invitations", invitation_views.invite, name="organization_invite"),
    path(
        "settings/organization/invitations/<uuid:invitation_id>/resend",
        invitation_views.resend,
        name="organization_invitation_resend",
    ),
    path(
        "settings/organization/invitations/<uuid:invitation_id>/revoke",
        invitation_views.revoke,
        name="organization_invitation_revoke",
    ),
    path("settings/organization/audit", audit_views.organization, name="organization_audit"),
    path("settings/organization/audit.csv", audit_views.organization_csv, name="organization_audit_csv"),
    path("settings/organization/danger", organization_views.danger, name="organization_danger"),
    path("settings/organization/transfer", organization_views.transfer, name="organization_transfer"),
    path("settings/organization/delete", organization_views.delete, name="organization_delete"),
    path("invitations/<str:token>", invitation_views.invitation, name="invitation"),
    path("billing/limits", limit_views.limits, name="limits"),
    path("manage-api-keys", key_views.keys, name="keys"),
    path("manage-api-keys/new", key_views.new_key, name="keys_new"),
    path("manage-api-keys/<uuid:key_id>", key_views.one_key, name="keys_one"),
    path("manage-api-keys/<uuid:key_id>/state", key_views.set_state, name="keys_state"),
    path("manage-api-keys/<uuid:key_id>/take-over", key_views.take_over, name="keys_take_over"),
    path("manage-api-keys/<uuid:key_id>/delete", key_views.delete_key, name="keys_delete"),
    path("playground", playground_views.page, name="playground"),
    path("playground/key", playground_views.key, name="playground_key"),
    path("healthz", health.healthz, name="healthz"),
    path("status", health.status, name="status"),
    path("status/targets", target_views.targets, name="target_health"),
]
