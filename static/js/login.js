// One step at a time on the sign-in form: the e-mail first, then the password. The form itself is whole, so password
// managers fill it, and without this script both fields are simply there.

const form = document.querySelector("form[data-login-steps]");

function showPassword(form) {
  form.dataset.step = "password";
  form.querySelector("[data-login-password]").hidden = false;
  form.querySelector("[data-login-continue]").hidden = true;
  form.querySelector("[data-login-submit]").hidden = false;
  const password = form.querySelector('input[type="password"]');
  if (!password.value) password.focus();
}

function askEmailFirst(form) {
  form.querySelector("[data-login-password]").hidden = true;
  form.querySelector("[data-login-submit]").hidden = true;
  const proceed = form.querySelector("[data-login-continue]");
  proceed.hidden = false;
  const email = form.querySelector('input[type="email"]');
  const advance = (event) => {
    if (form.dataset.step === "password") return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (email.reportValidity()) showPassword(form);
  };
  proceed.addEventListener("click", advance);
  email.addEventListener("keydown", (event) => event.key === "Enter" && advance(event));
  // A password manager that fills both fields at once saves the step.
  form.querySelector('input[type="password"]').addEventListener("input", () => showPassword(form), { once: true });
}

if (form && !form.querySelector('input[type="password"]').value && form.dataset.loginSteps !== "both") {
  askEmailFirst(form);
}
