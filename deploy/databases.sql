-- One database for each service: nothing joins across them.
CREATE DATABASE stoa_users;
CREATE DATABASE stoa_products;
CREATE DATABASE stoa_orders;
CREATE DATABASE stoa_notifications;
