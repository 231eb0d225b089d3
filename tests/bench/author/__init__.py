"""The procedure of the seed's author, in torch and in Keras: what a trial is compared with."""
