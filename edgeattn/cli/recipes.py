"""`edgeattn recipes`: what can be deployed from here."""

from __future__ import annotations

import click

from edgeattn.cli.options import echo_json, json_option
from edgeattn.errors import RecipeError
from edgeattn.recipe import PIPELINES, load_recipe, recipe_names


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the recipes in pipelines/ with their task, model and data.

    \b
    Example:
      edgeattn recipes
    """
    recipes = [load_recipe(name) for name in recipe_names()]
    if not recipes:
        raise RecipeError(f"There is no recipe in {PIPELINES}/; run from the folder that holds it.")
    if as_json:
        echo_json({recipe.name: recipe.model_dump(mode="json") for recipe in recipes})
        return
    for recipe in recipes:
        path = recipe.data.settings.get("path", "no download needed")
        click.echo(f"{recipe.name:<24} {recipe.task:<10} {recipe.model.name:<16} {recipe.data.format} ({path})")
