"""Routes, authentication and one error mapper per wire format. No logic lives here."""
