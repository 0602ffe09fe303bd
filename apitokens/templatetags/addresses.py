from django import template

from apitokens.pages import places

register = template.Library()
register.simple_tag(places.outside)
