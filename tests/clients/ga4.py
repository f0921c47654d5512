"""ga4mp from the Python index sends events to a collect: python ga4.py http://127.0.0.1:8080."""

import sys

from ga4mp import GtagMP

NOTE = 'Größe & Maß = 100 % + ☕ "quoted" \\ ~ \n日本語'

client = GtagMP(
    api_secret="not-a-real-secret", measurement_id="G-PYTHON", client_id="2036582911.1795183900"
)
client._base_domain = f"{sys.argv[1]}/mp/collect"
client.store.set_user_property(name="tier", value="gold")

purchase = client.create_new_event(name="purchase")
purchase.set_event_param(name="currency", value="EUR")
purchase.set_event_param(name="value", value=39.98)
purchase.set_event_param(name="transaction_id", value=4711)
item = purchase.create_new_item(item_id="P1", item_name="T-shirt")
item.set_parameter("price", 29.2)
item.set_parameter("quantity", 2)
purchase.add_item_to_event(item)
login = client.create_new_event(name="login")
login.set_event_param(name="method", value=NOTE)
client.send([purchase, login])

# Sent later, with the time at which it happened, and not in an array.
search = client.create_new_event(name="search")
search.set_event_param(name="search_term", value="Größe ☕")
client.send([search], postpone=True)
client.postponed_send()
