"""The components of every page as template tags. templates/_components/README.md shows each in use.

A tag gathers values and renders one small template from templates/_components/, so that looks are changed in one
place and pages read as a list of what they show.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from django import template
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, RadioSelect, Select, Textarea
from django.template.loader import get_template
from django.urls import Resolver404, resolve
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

ICONS_FILE = Path(__file__).with_name("icons.json")
TONES = frozenset({"neutral", "primary", "success", "warning", "error", "info"})
BANNER_ICONS = {
    "neutral": "info",
    "primary": "info",
    "info": "info",
    "success": "circle-check",
    "warning": "triangle-alert",
    "error": "circle-alert",
}
#: Django's message levels in the words of our tones.
MESSAGE_TONES = {"debug": "neutral", "info": "info", "success": "success", "warning": "warning", "error": "error"}


def render(component: str, /, **context: Any) -> SafeString:
    """One component template, rendered with these values alone."""
    return mark_safe(get_template(f"_components/{component}.html").render(context))  # noqa: S308 - output of a template


def checked_tone(tone: str) -> str:
    """The tone itself. Raises TemplateSyntaxError for a word that has no colours."""
    if tone not in TONES:
        raise template.TemplateSyntaxError(f"unknown tone {tone!r}; one of {', '.join(sorted(TONES))}")
    return tone


@cache
def icon_shapes() -> dict[str, str]:
    """Name to SVG shapes of every icon listed in frontend/icons.txt."""
    shapes: dict[str, str] = json.loads(ICONS_FILE.read_text("utf-8"))
    return shapes


@register.simple_tag
def icon(name: str, classes: str = "size-4", label: str = "") -> SafeString:
    """An inlined Lucide icon. Hidden from screen readers unless ``label`` names what it means.

    Raises TemplateSyntaxError for a name that frontend/icons.txt does not list.
    """
    shapes = icon_shapes().get(name)
    if shapes is None:
        raise template.TemplateSyntaxError(f"no icon {name!r}: add it to frontend/icons.txt and run npm run build")
    meaning = format_html('role="img" aria-label="{}"', label) if label else mark_safe('aria-hidden="true"')
    return format_html(
        '<svg class="{} shrink-0" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2"'
        ' stroke-linecap="round" stroke-linejoin="round" focusable="false" {}>{}</svg>',
        classes,
        meaning,
        mark_safe(shapes),  # noqa: S308 - our own committed file
    )


# -- What wraps content -----------------------------------------------------------------------------------------------
@register.simple_block_tag
def page_header(content: str, title: str, subtitle: str = "", back: str = "", back_label: str = "") -> SafeString:
    """The page's h1 with a subtitle; the content is its row of actions. ``back`` is the address of the parent page."""
    return render("page_header", actions=content, title=title, subtitle=subtitle, back=back, back_label=back_label)


@register.simple_block_tag
def card(
    content: str, title: str = "", subtitle: str = "", classes: str = "", id: str = "", flush: bool = False
) -> SafeString:
    """A surface with an optional heading. ``flush`` leaves out the padding, for tables that reach the edges."""
    return render("card", content=content, title=title, subtitle=subtitle, classes=classes, id=id, flush=flush)


@register.simple_block_tag
def banner(content: str, tone: str = "info", title: str = "", icon: str = "", classes: str = "") -> SafeString:
    """A notice inside the page: something happened, or something needs care."""
    mark = icon or BANNER_ICONS[checked_tone(tone)]
    return render("banner", content=content, tone=tone, title=title, icon=mark, classes=classes)


@register.simple_block_tag
def dialog(content: str, id: str, title: str, subtitle: str = "", wide: bool = False, open: bool = False) -> SafeString:
    """A modal <dialog>. Open it with ``data-dialog-open="<id>"`` on a button; ``open=True`` opens it with the page."""
    return render("dialog", content=content, id=id, title=title, subtitle=subtitle, wide=wide, open=open)


@register.simple_block_tag
def menu(content: str, id: str, label: str, icon: str = "ellipsis", classes: str = "") -> SafeString:
    """A round button that opens a list of ``.menu-item`` links and buttons."""
    return render("menu", content=content, id=id, label=label, icon=icon, classes=classes)


@register.simple_block_tag
def empty(content: str, title: str, icon: str = "circle-dashed") -> SafeString:
    """What stands where nothing is yet: why, and what to do about it (the content)."""
    return render("empty", content=content, title=title, icon=icon)


@register.simple_block_tag
def table_scroll(content: str, label: str) -> SafeString:
    """A wide table that scrolls inside its own region, which the keyboard can reach."""
    return render("table_scroll", content=content, label=label)


# -- Leaves -----------------------------------------------------------------------------------------------------------
@register.simple_tag
def badge(text: str, tone: str = "neutral", icon: str = "") -> SafeString:
    """A short state in a tinted chip."""
    return render("badge", text=text, tone=checked_tone(tone), icon=icon)


@register.simple_tag
def tile(
    label: str, value: str, note: str = "", icon: str = "", tone: str = "neutral", href: str = "", link: str = ""
) -> SafeString:
    """A figure with its name, a note in a tone, and an optional link."""
    return render("tile", label=label, value=value, note=note, icon=icon, tone=checked_tone(tone), href=href, link=link)


@register.simple_tag
def meter(used: int, limit: int, label: str) -> SafeString:
    """How much of a limit is used; amber from 80 %, red from 100 %. Both numbers in one unit, whichever."""
    percent = 100 if limit <= 0 else min(100, used * 100 // limit)
    tone = "error" if percent >= 100 else "warning" if percent >= 80 else "primary"
    return render("meter", percent=percent, tone=tone, label=label)


@register.simple_tag
def copy_button(text: str = "", target: str = "", label: str = "", classes: str = "btn-sm") -> SafeString:
    """A button that copies ``text``, or the text of the element that the selector ``target`` finds."""
    return render("copy_button", text=text, target=target, label=label, classes=classes)


@register.simple_block_tag
def code_block(content: str, id: str, label: str = "") -> SafeString:
    """A dark block of code with a copy button; variables in it were escaped where they were written."""
    inner = mark_safe(content.strip("\n"))  # noqa: S308 - rendered by the page around it
    return render("code_block", content=inner, id=id, label=label)


@register.simple_tag
def submit(
    text: str, icon: str = "", classes: str = "btn-primary", name: str = "", value: str = "", form: str = ""
) -> SafeString:
    """A submit button that shows a spinner and takes no second click while its form is under way."""
    return render("submit", text=text, icon=icon, classes=classes, name=name, value=value, form=form)


@register.simple_tag
def pager(newer: str = "", older: str = "", label: str = "", target: str = "") -> SafeString:
    """Newer and older pages of a list that is paged by key. With ``target`` htmx swaps only that element."""
    return render("pager", newer=newer, older=older, label=label, target=target)


# -- Forms ------------------------------------------------------------------------------------------------------------
def _widget_classes(field: BoundField) -> str:
    widget = field.field.widget
    if isinstance(widget, CheckboxInput):
        return "checkbox checkbox-sm"
    if isinstance(widget, Textarea):
        return "textarea"
    if isinstance(widget, RadioSelect | CheckboxSelectMultiple):
        return ""
    if isinstance(widget, Select):
        return "select"
    return "input"


@register.simple_tag
def field(
    bound: BoundField,
    label: str = "",
    help: str = "",
    suffix: str = "",
    prefix: str = "",
    link: str = "",
    link_text: str = "",
    hide_label: bool = False,
    no_help: bool = False,
    autofocus: bool = False,
) -> SafeString:
    """One form field with its label, help and errors, tied together for screen readers.

    ``link`` and ``link_text`` put a link opposite the label; ``no_help`` leaves the form's own help text out.
    """
    if bound.is_hidden:
        return mark_safe(bound.as_widget())  # noqa: S308 - Django's own widget
    given = bound.field.widget.attrs.get("class", "")
    attrs: dict[str, Any] = {"class": f"{_widget_classes(bound)} {given}".strip()}
    bound.help_text = help or ("" if no_help else bound.help_text)
    if autofocus:
        attrs["autofocus"] = True
    if getattr(bound.field.widget, "input_type", "") in {"email", "password"}:
        attrs["placeholder"] = False  # it would only repeat the label
    return render(
        "field",
        field=bound,
        widget=bound.as_widget(attrs=attrs),
        label=label or bound.label,
        help=bound.help_text,
        link=link,
        link_text=link_text,
        suffix=suffix,
        prefix=prefix,
        hide_label=hide_label,
        checkbox=isinstance(bound.field.widget, CheckboxInput),
        group=isinstance(bound.field.widget, RadioSelect | CheckboxSelectMultiple),
    )


@register.simple_tag
def form_errors(form: Any) -> SafeString:
    """The errors that belong to a whole form rather than to one field."""
    return render("form_errors", errors=form.non_field_errors())


@register.simple_tag
def form_fields(form: Any) -> SafeString:
    """A whole form: its general errors, then every field in order."""
    parts = [form_errors(form), *(field(bound) for bound in form)]
    return mark_safe("\n".join(parts))  # noqa: S308 - each part is a rendered template


@register.filter
def message_tone(tags: str) -> str:
    """The tone for the level of one of Django's messages."""
    return next((MESSAGE_TONES[tag] for tag in tags.split() if tag in MESSAGE_TONES), "info")


# -- Navigation -------------------------------------------------------------------------------------------------------
@register.filter
def page_exists(path: str) -> bool:
    """Whether this installation serves the path, so that menus name only what is there."""
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


@register.filter
def is_current(request_path: str, path: str) -> bool:
    """Whether a menu entry leads to the page shown or to one of its parents."""
    here, there = request_path.rstrip("/"), path.rstrip("/")
    return here == there if not there else here == there or here.startswith(f"{there}/")


@register.filter
def initials(name: str) -> str:
    """One or two capital letters that stand for a person or a workspace."""
    words = re.findall(r"[^\W_]+", name.split("@", 1)[0])
    return "".join(word[0] for word in words[:2]).upper() or "?"
