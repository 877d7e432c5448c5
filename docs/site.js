"use strict";
// What scrolls must be reachable by keyboard.
for (const part of document.querySelectorAll("pre > code, .md-typeset__scrollwrap, .md-typeset__table")) part.tabIndex = 0;
for (const dialog of document.querySelectorAll("[role=dialog]:not([aria-label])")) dialog.setAttribute("aria-label", "Search");
