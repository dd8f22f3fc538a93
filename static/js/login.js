// One step at a time on the sign-in form: the e-mail first, then the password. The style sheet hides the second step
// while data-login-steps is "one"; the form itself is whole, so without this script the server asks for the rest.

const form = document.querySelector("form[data-login-steps]");

function showPassword() {
  form.dataset.loginSteps = "both";
  const password = form.querySelector('input[type="password"]');
  if (!password.value) password.focus();
}

if (form) {
  const email = form.querySelector('input[type="email"]');
  const password = form.querySelector('input[type="password"]');
  // A password manager that fills both fields at once saves the step.
  password.addEventListener("input", showPassword, { once: true });
  form.addEventListener("submit", (event) => {
    if (form.dataset.loginSteps === "both") {
      if (!form.reportValidity()) event.preventDefault();
      return;
    }
    event.preventDefault();
    if (email.reportValidity()) showPassword();
  });
}
