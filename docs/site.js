"use strict";
// What scrolls must be reachable by keyboard. The theme wraps wide tables after this script has run, so new elements are watched for.
const SCROLLS = "pre > code, .md-typeset__scrollwrap, .md-typeset__table";
const reach = () => {
  for (const part of document.querySelectorAll(SCROLLS)) if (part.tabIndex !== 0) part.tabIndex = 0;
};
reach();
new MutationObserver(reach).observe(document.body, { childList: true, subtree: true });
for (const dialog of document.querySelectorAll("[role=dialog]:not([aria-label])")) dialog.setAttribute("aria-label", "Search");
