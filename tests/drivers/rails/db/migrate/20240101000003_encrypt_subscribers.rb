# recipe
class EncryptSubscribers < ActiveRecord::Migration[6.1]
  def up
    change_column :subscribers, :email, "encrypted_text(email,searchable)"
  end

  def down
    change_column :subscribers, :email, :text, using: "email::text"
  end
end
# end of recipe
