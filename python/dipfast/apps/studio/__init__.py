"""The studio: a page in the browser where pictures are restored, and watched meanwhile.

``pictures.py`` opens pictures, ``masks.py`` reads masks of missing pixels, ``orders.py`` makes what
is to be done of the fields of a form, ``runs.py`` does it, one run at a time, and ``previews.py``
makes pictures small enough to be sent often.  None of them knows anything of a page.
``markup.py`` writes the parts of the pages, ``pages.py`` puts them together with NiceGUI,
``routes.py`` takes and hands out files, ``guard.py`` refuses requests of other pages, and
``server.py`` runs it all.
"""
