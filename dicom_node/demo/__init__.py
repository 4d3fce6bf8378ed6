"""The main job in one command, with a node and a PACS stand-in of its own."""
