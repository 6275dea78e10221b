/** Ready-made operations, one per tab. Only the query of the first is used. */
export const EXAMPLES: { query: string; variables?: string }[] = [
  {
    query: `# Welcome to Stoa. Sign in with the person icon on the left,
# then run this: it crosses all four services.
query MyShop {
  me {
    firstName
    email
    orders(first: 3) {
      totalCount
      nodes {
        number
        status
        nextStatuses
        total { formatted }
        lines {
          name
          quantity
          subtotal { formatted }
          product { stock imageUrl category { name } }
        }
      }
    }
    notifications(first: 3) {
      nodes { title createdAt order { number status } }
    }
  }
}
`,
  },
  {
    query: `query Search($words: String, $after: String) {
  products(query: $words, first: 10, after: $after, sort: PRICE_ASC) {
    totalCount
    nodes { id sku name price { formatted } stock category { name parent { name } } }
    pageInfo { hasNextPage endCursor }
  }
}
`,
    variables: `{
  "words": "coffee"
}`,
  },
  {
    query: `# Buys the product you name: copy its id from the search.
# A repeat with the same key returns the same order.
mutation Buy($productId: ID!, $key: ID!) {
  placeOrder(
    input: {
      lines: [{ productId: $productId, quantity: 1 }]
      shippingAddress: { line1: "12 Canal Street", city: "Amsterdam", postalCode: "1015 DZ", country: "NL" }
      paymentMethod: "sandbox_approve"
    }
    idempotencyKey: $key
  ) {
    order { id number status total { formatted } }
    userErrors { field code message }
  }
}
`,
    variables: `{
  "productId": "",
  "key": "my-first-order"
}`,
  },
  {
    query: `# Every change of your orders, as it happens.
subscription MyOrderUpdates($after: String) {
  myOrderUpdates(after: $after) {
    cursor
    status
    previousStatus
    occurredAt
    order { number total { formatted } lines { product { name stock } } }
  }
}
`,
  },
  {
    query: `# For administrators (admin@stoa.test).
mutation Ship($orderId: ID!, $key: ID!) {
  shipOrder(orderId: $orderId, idempotencyKey: $key) {
    order { number status nextStatuses }
    userErrors { code message }
  }
}
`,
    variables: `{
  "orderId": "",
  "key": "ship-1"
}`,
  },
]
