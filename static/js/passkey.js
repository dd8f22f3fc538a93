// What allauth's own passkey scripts leave open: a browser without passkeys hides the buttons, and a refusal is said
// to the person instead of the console.

const BUTTONS = "#passkey_login, #mfa_webauthn_authenticate, #mfa_webauthn_add, #mfa_webauthn_reauthenticate";

if (!window.PublicKeyCredential) {
  document.querySelectorAll(BUTTONS).forEach((button) => (button.disabled = true));
}

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const detail = { text: document.body.dataset.textPasskey, tone: "warning" };
  document.dispatchEvent(new CustomEvent("toast", { detail }));
});
