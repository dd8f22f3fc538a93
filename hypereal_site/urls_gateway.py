"""The gateway face: what answers under /api/v1/ and under /v1/ alike. Every view here is declared by `endpoint`."""

from __future__ import annotations

from django.urls import path

from gateway import audio_views, gpu_views, job_views, media_views, storage_views, video_views, views

#: What Google's clients put between a base URL and a model, by their settings.
GEMINI_VERSIONS = ("v1beta", "v1", "v1alpha")

urlpatterns = [
    path("chat/completions", views.chat_completions),
    path("messages", views.messages),
    path("messages/count_tokens", views.count_tokens),
    path("models", views.models),
    path("models/<path:name>", views.model),
    path("responses", views.responses),
    path("responses/compact", views.compact),
    path("responses/input_tokens", views.input_tokens),
    path("responses/<str:response_id>", views.one_response),
    path("responses/<str:response_id>/input_items", views.input_items),
    path("responses/<str:response_id>/cancel", views.cancel_response),
    path("embeddings", views.embeddings),
    path("audio/generations", audio_views.audio_generations),
    path("audio/speech", audio_views.audio_speech),
    path("audio/transcriptions", audio_views.audio_transcriptions),
    path("audio/translations", audio_views.audio_translations),
    path("images/generations", media_views.generations),
    path("images/generate", media_views.generate),
    path("images/edits", media_views.edits),
    path("videos/generate", video_views.generate),
    path("openapi.json", views.openapi_document),
    path("quote", views.quote),
    path("receipts/<str:request_id>", views.receipt),
    path("jobs", job_views.jobs),
    path("jobs/<str:job_id>", job_views.job),
    path("jobs/<str:job_id>/cancel", job_views.cancel),
    path("deployments", gpu_views.deployments),
    path("deployments/<str:name>", gpu_views.deployment),
    path("gpu/run/<str:name>", gpu_views.run),
    path("gpu/jobs/<str:job_id>", gpu_views.gpu_job),
    path("gpu/jobs/<str:job_id>/cancel", gpu_views.gpu_cancel),
    path("gpu/<str:name>", gpu_views.hosted),
    path("comfy", gpu_views.retired),
    path("comfy/<path:rest>", gpu_views.retired),
    path("storage", storage_views.files),
    path("storage/upload", storage_views.upload),
    path("storage/<str:object_id>", storage_views.one_file),
    path("gemini", views.gemini_plain),
    *(
        address
        for version in GEMINI_VERSIONS
        for address in (
            path(f"gemini/{version}/models", views.gemini_models),
            path(f"gemini/{version}/models/<path:name>:generateContent", views.gemini_generate),
            path(f"gemini/{version}/models/<path:name>:streamGenerateContent", views.gemini_stream),
            path(f"gemini/{version}/models/<path:name>:countTokens", views.gemini_count_tokens),
            path(f"gemini/{version}/models/<path:name>:embedContent", views.gemini_embed_one),
            path(f"gemini/{version}/models/<path:name>:batchEmbedContents", views.gemini_embed_batch),
            path(f"gemini/{version}/models/<path:name>", views.gemini_model),
        )
    ),
]
