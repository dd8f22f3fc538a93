"""The gateway face: what answers under /api/v1/ and under /v1/ alike. Every view here is declared by `endpoint`."""

from __future__ import annotations

from django.urls import path

from gateway import views

urlpatterns = [
    path("chat/completions", views.chat_completions),
    path("messages", views.messages),
    path("messages/count_tokens", views.count_tokens),
    path("models", views.models),
    path("models/<path:name>", views.model),
    path("responses", views.responses),
    path("embeddings", views.embeddings),
    path("receipts/<str:request_id>", views.receipt),
]
