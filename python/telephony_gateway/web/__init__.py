"""The softphone page and the browser SDK it uses: plain ES modules, no build step."""
