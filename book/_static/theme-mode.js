/* A reader who has chosen no theme has the system's. The theme's own script says so only when the
   page is there, and complains. */
{
  const page = document.documentElement.dataset;
  page.mode ||= "auto";
  page.theme ||= matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
